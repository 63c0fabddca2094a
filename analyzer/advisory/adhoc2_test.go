package advisory
import ("testing";"os";"strings")
func TestAdhoc(t *testing.T){
 d:="/root/go/pkg/mod/github.com/google/osv-scalibr@v0.5.3/semantic/testdata/"
 for f,eco:=range map[string]string{"alpine-versions.txt":"Alpine","alpine-versions-generated.txt":"Alpine","redhat-versions.txt":"AlmaLinux","pypi-versions.txt":"PyPI","pypi-versions-generated.txt":"PyPI","debian-versions-generated.txt":"Debian"} {
  b,err:=os.ReadFile(d+f); if err!=nil{t.Fatal(err)}
  n,bad,unp:=0,0,0
  for _,l:=range strings.Split(string(b),"\n"){ p:=strings.Fields(l); if len(p)!=3||strings.HasPrefix(l,"#"){continue}
   n++
   c,err:=orderOf(eco)(p[0]); if err!=nil{unp++; continue}
   r,err:=c(p[2]); if err!=nil{unp++;continue}
   w:=map[string]int{"<":-1,"=":0,">":1}[p[1]]
   if r!=w{bad++; if bad<15{t.Log(f,"WRONG",l,"got",r)}}
  }
  t.Log(f,n,"bad",bad,"unparsable",unp)
 }
}
