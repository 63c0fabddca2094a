package gate

import (
	"container/list"
	"sync"
)

const (
	maxEntryBytes = 64 << 20 // manifests kept in memory
	entryOverhead = 1 << 10  // what an entry costs besides its bytes, about
)

// lru keeps the entries that were used last, within a budget of bytes.
type lru struct {
	mu     sync.Mutex
	budget int64
	used   int64
	order  *list.List // front = used last
	byKey  map[key]*list.Element
}

type lruItem struct {
	key  key
	e    *entry
	cost int64
}

func newLRU(budget int64) *lru {
	return &lru{budget: budget, order: list.New(), byKey: make(map[key]*list.Element)}
}

func (l *lru) get(k key) (*entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	el, ok := l.byKey[k]
	if !ok {
		return nil, false
	}
	l.order.MoveToFront(el)
	return el.Value.(*lruItem).e, true //nolint:errcheck,forcetypeassert // put stores nothing else
}

// has is no use of the entry.
func (l *lru) has(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.byKey[k]
	return ok
}

func (l *lru) put(k key, e *entry, cost int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.byKey[k]; ok {
		l.drop(el)
	}
	l.byKey[k] = l.order.PushFront(&lruItem{k, e, cost})
	l.used += cost
	for l.used > l.budget && l.order.Len() > 1 {
		l.drop(l.order.Back())
	}
}

func (l *lru) remove(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.byKey[k]; ok {
		l.drop(el)
	}
}

func (l *lru) drop(el *list.Element) {
	it := el.Value.(*lruItem) //nolint:errcheck,forcetypeassert // put stores nothing else
	l.order.Remove(el)
	delete(l.byKey, it.key)
	l.used -= it.cost
}
